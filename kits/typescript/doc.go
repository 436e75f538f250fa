// Package typescript tests the npm packages in its folders: @postrider/client and @postrider/fedify.
//
//	go test ./kits/typescript -run TestTypesAreFresh -update   writes the types of the API's OpenAPI document
package typescript
